"""Services of other people, as far as the tests need them: ``python -m`` starts one."""
