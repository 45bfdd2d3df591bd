"""Workers that a simulated scaler starts and stops, by the rule of the chart, while tasks come."""
