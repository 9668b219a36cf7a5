"""kill -9 for each built-in connector, judged by its stand-in's ledger.

``python -m tests.connectors.campaign --connector NAME --kills 200``. What kills and
judges is that of ``tests.crash``; here is what a connector adds to it:

entry     what a module of a connector has, and their names
observed  a connector whose calls are seen; a wire that loses and delays answers
worker    the process that is killed
stand_ins  what the vendors' modules share
bigquery  BigQuery's client and stand-in
databricks  its SDK and stand-in
snowflake its client and stand-in
http      definitions of the job server, once with and once without idempotency
process   commands on this machine; their witnesses are the commands themselves
flyte     a durable Flyte service in a process of its own, which is killed as well
"""
