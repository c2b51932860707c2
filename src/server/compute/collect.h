// A ByteSink whose bytes become a value: literals that are larger than a message, and what is read from other servers.
#pragma once

#include <capstan/schema/files.capnp.h>
#include <capstan/server/compute/value.h>

namespace capstan::server::compute {

struct Collecting {
  schema::ByteSink::Client sink;
  kj::Promise<ContentResult> content;  // resolves at the sink's end(), or with `cancelled` when it is dropped without
};

// On the connection's loop. What is written is charged to the scope's account.
Collecting collect(ComputeScope& scope, ElementType type, Encoding encoding);
// The same into a file that is durable at the end.
Collecting collect(ComputeScope& scope, std::unique_ptr<ContentWriter> writer, bool durable);

}  // namespace capstan::server::compute
