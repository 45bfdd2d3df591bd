"""Parts of screens: what a page shows of a task, a queue or a worker, made of the parts in `page`."""
