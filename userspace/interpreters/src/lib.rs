//! Language interpreters: recognised, their offsets found, their code named.
