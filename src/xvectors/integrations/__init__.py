"""Adapters to other toolkits; each module needs its toolkit installed."""
