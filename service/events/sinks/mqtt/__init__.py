"""MQTT 5: a client that publishes, and what it says to Home Assistant."""
