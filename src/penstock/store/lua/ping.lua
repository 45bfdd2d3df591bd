-- Answers where scripts may write: a replica, a master that misses its replicas and a server without memory refuse it.
return 1
