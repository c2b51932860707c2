// Jobs that take long go in slices, so that others get their turn on the pool in between.
#pragma once

#include <capstan/server/files/file-store.h>
#include <capstan/server/files/folder-state.h>

namespace capstan::server::files {

// Repeats a job on the pool until it answers true, or fails, or the connection has ended. `folder` and `scope` must
// outlive the promise.
template <typename Step>
kj::Promise<Status> repeat(FolderState& folder, ConnectionScope& scope, Step step) {
  return folder.run(scope, step).then([&folder, &scope, step](Result<bool> done) -> kj::Promise<Status> {
    if (!done.ok()) return Status(done.error());
    if (*done) return okStatus();
    if (scope.gone) return Status(connectionGoneError());
    return repeat(folder, scope, step);
  });
}

}  // namespace capstan::server::files
