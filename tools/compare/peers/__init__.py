"""The servers that Penstock is compared with. They run on the packages of requirements.txt and import none of ours."""
