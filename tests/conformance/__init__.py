"""What every store keeps, whatever its database: one suite for all of them."""
