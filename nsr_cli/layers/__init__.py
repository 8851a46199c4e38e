"""The method: sparse convolutions, their gates, and attaching them to other networks."""
