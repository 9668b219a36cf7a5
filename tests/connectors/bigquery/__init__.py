"""The BigQuery connector, through Google's own client, against the stand-in."""
