"""The method: sparse convolutions, their gates, and the surgery that puts them into other networks."""
