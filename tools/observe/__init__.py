"""What is written for Prometheus and Grafana from tables: rules of the service levels, and dashboards."""
