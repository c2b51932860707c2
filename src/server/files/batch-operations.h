// From the operations of a batch, as they stand in a message, to mutations of the tree.
#pragma once

#include <memory>
#include <variant>

#include <capstan/server/files/batch.h>

namespace capstan::server::files {

// Either something to be staged (its `operation` is not set), or to be copied, or a mutation. An operation that makes
// no sense is a mutation that fails.
using TakenOperation = std::variant<PutJob, CopyOptions, std::unique_ptr<Mutation>>;
TakenOperation read(schema::Operation::Reader operation);

// What an operation costs until it is carried out.
struct OperationSize {
  size_t kept = 0;       // of memory: paths, targets, versions
  size_t staged = 0;     // on the disk
  bool tooLong = false;  // one of them is longer than it can be: nothing of it is kept
};
OperationSize sizeOf(schema::Operation::Reader operation);

// A mutation that answers this error and does nothing.
std::unique_ptr<Mutation> makeFailure(Error error);

// Stages all of them; on the pool. A disk that is full, or broken, is everybody's error; content that is not what it
// was announced as is only its own.
Result<std::vector<std::unique_ptr<Mutation>>> stageAll(Staging& staging, std::vector<PutJob> jobs);

}  // namespace capstan::server::files
