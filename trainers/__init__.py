"""The training add-on: trainers read manifests only and write Hugging Face checkpoints."""
