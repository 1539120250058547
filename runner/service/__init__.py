"""The service, `qrunner serve`: programs and jobs over HTTP, for their users and nobody else.

`desk` is what users may do; `own` and `ibm` translate it into two forms of an API, `routing` holds
every route to what it declares.  A further form is a further list of routes in `app`.
"""
