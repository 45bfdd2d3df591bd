"""What the checks measure, one file for each; they load the runtime of the models, and run on the device."""
