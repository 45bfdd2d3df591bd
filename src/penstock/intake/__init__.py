"""From a request to tasks in the queue. No HTTP."""
