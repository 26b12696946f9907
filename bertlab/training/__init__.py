"""The one training loop, for pretraining and fine-tuning; it knows neither text nor metrics and is handed functions."""
