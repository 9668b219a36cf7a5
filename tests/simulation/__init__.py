"""The whole engine on a virtual clock, from one seed, against services that survive."""
