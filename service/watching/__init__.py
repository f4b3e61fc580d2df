"""The work of `posewire camera`: find and track the people of one camera, here or at a server, and show them."""
