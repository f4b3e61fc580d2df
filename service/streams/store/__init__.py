"""Where streams are kept so that another replica can resume them: in memory or in Redis."""
