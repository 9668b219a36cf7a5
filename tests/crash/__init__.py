"""Real SIGKILLs of a real process, judged by the job server's ledger.

board     a shared page: what the worker was doing when it was killed
scenario  which jobs a worker submits, what goes wrong with each, how it ends
worker    the process that is killed: an Orchestrator on a database
canaries  secrets that the services quote, and the search for what is left of them
audit     questions to the orchestrator's database
judge     database against witness: lost, duplicated, orphaned, rewritten
campaign  the loop: start, kill, restart, finish, judge; prints the figures
sentry    triggers in the database: who writes without the lease is noted
crew      several workers at once on one database, and their judgement
poison    bad rows beside good ones: ``python -m tests.crash.poison``
two       two workers, one of them killed or stopped: ``python -m tests.crash.two``
zombies   one stops, another takes over: ``python -m tests.crash.zombies``
"""
