"""Learn how members are weighted."""
