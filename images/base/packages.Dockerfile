# What some programs need beyond the stack: packages that the host has unpacked; nothing is run.
ARG GUEST_IMAGE
FROM ${GUEST_IMAGE}
LABEL io.qiskit-program-runner.image=stage io.qiskit-program-runner.build=unset
COPY packages/ /packages/
