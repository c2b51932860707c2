// What an operand of a call stands for: numbers, and things that can be read by the thread that computes.
#pragma once

#include <functional>
#include <variant>

#include <capstan/server/compute/elements.h>
#include <capstan/server/compute/source.h>
#include <capstan/server/compute/value.h>

namespace capstan::server::compute {

// A stored file of this server. Maybe of another login on the connection, whose grant may end before this one's does.
struct FileInput {
  files::HeldFile file;
  ElementType type = ElementType::UNSET;
  Encoding encoding = Encoding::UNSET;
};

// Something to compute on. Plain data, may cross threads.
using Input = std::variant<std::shared_ptr<const Content>, LiteralElements, FileInput>;

// What the operand brings along in its message.
size_t literalBytes(schema::Operand::Reader operand);

// Waits until the operand is there. Values and files of other servers are read through their capabilities, into a
// content of the scope's. Belongs to the connection's loop; `scope` must be held until it resolves or is dropped.
// The reader is used before this returns, not afterwards. `dependent` is the number of the node that needs it: values
// that were made later are refused. Errors: those of what it depends on; invalidArgument.
inline constexpr uint64_t NO_DEPENDENT = UINT64_MAX;
kj::Promise<Result<Input>> resolveInput(ComputeScope& scope, schema::Operand::Reader operand,
                                        uint64_t dependent = NO_DEPENDENT);

// The same for an operand that has to be one number. At once if it is a literal.
kj::Promise<Result<Number>> resolveNumber(ComputeScope& scope, schema::Operand::Reader operand,
                                          uint64_t dependent = NO_DEPENDENT);
// The number that a literal operand is; nothing for other operands.
std::optional<Number> literalNumber(schema::Operand::Reader operand);

// Bytes to be read, as far as is known. May block (a stat).
uint64_t sizeOf(const Input& input);
ElementType typeOf(const Input& input);
Encoding encodingOf(const Input& input);

// For the thread that computes. A file is read as long as the grant lasts that it was opened under: then its source
// answers `revoked` or `expired`, as this does if it has ended before. Blocks for literals of more than
// MEMORY_CONTENT_BYTES. What it makes is charged to `account`.
Result<std::unique_ptr<Source>> openInput(const Input& input, const Spool& spool,
                                          std::shared_ptr<SpoolAccount> account);

}  // namespace capstan::server::compute
