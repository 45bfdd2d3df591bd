"""Pages for people who open the server in a browser: what it is, and what each error means. They run no script."""
