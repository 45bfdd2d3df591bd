"""What tasks, batches and uploads are: pure, without input or output."""
