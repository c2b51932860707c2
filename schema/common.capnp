@0xe18e54c587c3b16e;
# What every interface of Capstan shares: units, paths, and the one vocabulary of expected failures.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("capstan::schema");

using Bytes = UInt64;
# A number of bytes.

using Time = Int64;
# Nanoseconds since 1970-01-01T00:00:00Z, without leap seconds; negative before.

using Nanoseconds = UInt64;
# A length of time.

using Path = Data;
# A place in a file tree, relative to the FileStore that is asked: names joined by '/', at most 4,096 bytes in all and
# 255 bytes each. Bytes, not text: a name may hold anything but '/' and NUL, also what is no UTF-8. "" is the tree
# itself. Empty names, "." and "..", NUL and a leading or trailing '/' are refused with `invalidPath`. The name
# ".capstan" directly under the served root belongs to the server: it is never listed, and asking for it, or reaching it
# through a symlink, is `notFound`.

using Version = Data;
# What a file, folder or symlink was at one moment: it changes when content or metadata does. Opaque and at most 32
# bytes: compare it for equality, and hand it back in an Expectation. A version says nothing about another path.

struct Error {
  # Something that a user can cause, or has to hear of. Broken connections and bugs are exceptions instead.

  code @0 :Code;

  message @1 :Text;
  # One English sentence that names the thing and the way out. Fit for a terminal: it holds no control characters.

  path @2 :Path;
  # What the error is about, where that is a path; as the caller wrote it.

  enum Code {
    unset @0;
    notFound @1;        # There is nothing at this path.
    exists @2;          # The expectation was `absent`, or the operation makes something new, and there is something.
    conflict @3;        # The version is another one than was expected. Nothing was changed.
    denied @4;          # The token is wrong or missing, or the grant or the file's permissions do not allow it.
    revoked @5;         # The grant was taken back.
    expired @6;         # The grant, or what a resume key stood for, is past its time.
    noSpace @7;         # The disk is full.
    quota @8;           # A limit of the grant or of the disk's owner is reached.
    limit @9;           # A limit of the connection or server is reached (open files, uploads, size of a message).
    notDirectory @10;   # A file or symlink stands where a folder is needed.
    isDirectory @11;    # A folder stands where a file is needed.
    notEmpty @12;       # The folder still has entries, and the call was not recursive.
    invalidPath @13;    # The path breaks the rules of `Path`, or a symlink in it leads out of the tree.
    invalidArgument @14;
    overloaded @15;     # The server's queue is full. Try again later.
    tooLarge @16;       # Larger than the limit that the message names.
    corrupt @17;        # Size or digest are not what was announced.
    changed @18;        # The file changed while it was being read.
    unsupported @19;    # The file system cannot do this (a device file, a rename across mounts).
    io @20;             # The disk answered with an error.
    shuttingDown @21;   # The server is going away and takes no new work.
    protocolVersion @22; # Client and server have no protocol version in common.
    timedOut @23;
    cancelled @24;
    unreachable @25;    # Made by clients, never sent: the server cannot be reached, or what answers is no Capstan server.
  }
}

struct Outcome {
  # How a call ended. The default, a null pointer on the wire, is `ok`.
  #
  # Where a call answers a capability, that capability is always there, so that further calls can be pipelined on it
  # without waiting. If the outcome is an error, each method of the capability answers that same error, down a whole
  # pipeline; methods that stream throw it instead (see ByteSink in files.capnp).

  union {
    ok @0 :Void;
    error @1 :Error;
  }
}
