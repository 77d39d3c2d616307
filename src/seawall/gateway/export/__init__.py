"""Configurations of the programs that stand in front of the gateways."""
