"""The regulator's monitor: follows the firehose, proves that nothing is missing or changed, and keeps figures."""
