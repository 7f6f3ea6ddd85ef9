"""What the tests share: private brokers, branches, HTTP."""
