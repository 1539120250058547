# A program: its files on the guest, and nothing of it is run.
ARG GUEST_IMAGE
FROM ${GUEST_IMAGE}
LABEL io.qiskit-program-runner.image=stage io.qiskit-program-runner.build=unset
COPY program/ /program/
