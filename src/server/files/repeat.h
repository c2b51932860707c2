// Jobs that take long go in slices, so that others get their turn on the pool in between.
#pragma once

#include <capstan/server/files/file-store.h>
#include <capstan/server/files/folder-state.h>

namespace capstan::server::files {

// Repeats what answers the promise of a Result<bool> until that is true, or it fails, or the connection has ended.
// `scope` must outlive the promise.
template <typename RunStep>
kj::Promise<Status> repeatUntilDone(ConnectionScope& scope, RunStep runStep) {
  return runStep().then([&scope, runStep](Result<bool> done) -> kj::Promise<Status> {
    if (!done.ok()) return Status(done.error());
    if (*done) return okStatus();
    if (scope.gone) return Status(connectionGoneError());
    return repeatUntilDone(scope, runStep);
  });
}

// The same for a job on the pool. `folder` and `scope` must outlive the promise.
template <typename Step>
kj::Promise<Status> repeat(FolderState& folder, ConnectionScope& scope, Step step) {
  return repeatUntilDone(scope, [&folder, &scope, step]() { return folder.run(scope, step); });
}

}  // namespace capstan::server::files
