"""What tests of the machine, the store and the engine share: a clock, factories."""
