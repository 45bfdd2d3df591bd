"""What Penstock is installed from: locked packages, their licences, and the advisories that concern them."""
