"""Events that leave the server: kept in a journal on disk until webhooks, MQTT, Redis and files have them."""
