"""Parts of `jaxbelt.fit`: free parameters, data and their operators, methods, posterior. Pure, but for a method's loop."""
