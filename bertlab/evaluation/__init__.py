"""Numbers in, numbers out: metrics, baselines, predictions files. No torch."""
