"""One file for each room that reads untrusted bytes."""
