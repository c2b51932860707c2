// A task as a client sent it becomes one that is whole by itself: values are waited for and kept, files are remembered
// or copied.
#pragma once

#include <capstan/server/compute/compute-scope.h>
#include <capstan/server/compute/jobs/stored-task.h>

namespace capstan::server::compute {

// Input files that it makes are durable, and removed again if it fails or is dropped. `scope` and the message of `task`
// must be held until it resolves or is dropped. Errors as Compute.submit has them.
kj::Promise<Result<StoredTask>> takeTask(ComputeScope& scope, schema::Task::Reader task);

}  // namespace capstan::server::compute
