# The ids of docker's own user for them.
U=${CORACLE_TEST_USER:-coracle-test}
DOCKERD="--userns-remap $U"
