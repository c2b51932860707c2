// Inputs on their way to a computation: what fits goes into the call's own message, stored files go as their
// capability, everything else as a stream before the call.
#pragma once

#include <capstan/client/compute.h>
#include <capstan/client/connection.h>
#include <capstan/schema/compute.capnp.h>

namespace capstan::client {

// Bytes of a literal up to which it travels in the message of the call.
inline constexpr uint64_t LARGEST_LITERAL = 1 << 20;

// An input as one connection has it. `elements` stay the caller's.
struct SentInput {
  const Elements* elements = nullptr;
  kj::Maybe<schema::Value::Client> value;
  kj::Maybe<schema::File::Client> file;
  ElementType type = ElementType::UNSET;  // of the file
  Encoding encoding = Encoding::UNSET;

  void fill(schema::Operand::Builder to);
};

// Sends what goes before the call. Resolves at once where that is nothing to wait for. `input` and `connection` must
// outlive the promise and what it answers. Errors: those of the source, invalidArgument (a newline in a text), and why
// the server takes no more. A broken connection rejects.
kj::Promise<Result<SentInput>> sendInput(Connection& connection, const ComputeInput& input);

}  // namespace capstan::client
