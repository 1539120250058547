# The guest: our own code on the stack.  Rebuilt in seconds when that code changes.
ARG STACK_IMAGE
FROM ${STACK_IMAGE}
LABEL io.qiskit-program-runner.image=stage io.qiskit-program-runner.build=unset
USER 0
COPY qrunner/ /opt/qrunner/
# unchecked-hash: never compared with the source again, and the same bytes in every build
RUN ["python3", "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "/opt/qrunner/sandbox"]
# Files that a program leaves there are kept with its job; /tmp is all that it may write to.
RUN ["python3", "-I", "-c", "import os; os.symlink('/tmp/out', '/out')"]
USER 65532:65532
