"""The gateway: what a backbone shows to applications; so far its projection of the topics into PostgreSQL."""
