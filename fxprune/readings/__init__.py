"""What layers read when a model runs on data: products with weights, and their moments."""
