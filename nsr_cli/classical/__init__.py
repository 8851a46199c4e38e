"""Methods without a network: plain functions from a degraded image to a restored one."""
