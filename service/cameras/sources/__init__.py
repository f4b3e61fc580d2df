"""What is read: the address of a source, the kinds of sources, and the process that reads one."""
