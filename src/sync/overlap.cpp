#include <capstan/sync/overlap.h>

#include <unistd.h>
#include <climits>
#include <cstdlib>

#include <capstan/base/path.h>
#include <capstan/base/text.h>

namespace capstan::sync {

namespace {

std::string hostName() {
  char name[HOST_NAME_MAX + 1] = {};
  return gethostname(name, HOST_NAME_MAX) == 0 ? name : "";
}

std::string resolved(const std::string& path) {
  char* real = realpath(path.c_str(), nullptr);
  if (real == nullptr) return path;
  std::string result = real;
  free(real);
  return result;
}

bool contains(std::string_view folder, std::string_view path) {
  if (folder == "/" || path == folder) return true;
  return path.size() > folder.size() && path.substr(0, folder.size()) == folder && path[folder.size()] == '/';
}

}  // namespace

Status checkOverlap(std::string_view local, std::string_view servedRoot, std::string_view remote) {
  std::string there(servedRoot);
  if (!remote.empty()) there += (there == "/" ? "" : "/") + std::string(remote);
  if (!contains(local, there) && !contains(there, local)) return okStatus();
  const char* how = local == there ? " is the folder itself that the server keeps there"
                                   : " and the folder at the server are one in the other on this machine's disk";
  return errorAt(ErrorCode::INVALID_PATH, local, "",
                 std::string(how) + ", so they can never be in step; choose another folder");
}

kj::Promise<Status> checkOverlap(client::Client& client, std::string local, std::string remote) {
  return client.status().then([local = resolved(local), remote = std::move(remote)](
                                  Result<std::shared_ptr<capnp::MallocMessageBuilder>>&& answer) -> Status {
    if (!answer.ok()) return answer.error();
    auto status = (*answer)->getRoot<schema::Status>().asReader();
    std::string host(status.getInfo().getHost().cStr());
    std::string root(status.getRoot().cStr());
    if (host.empty() || host != hostName() || root.empty() || root[0] != '/') return okStatus();
    // The server tells its root as it is shown on terminals.
    Status apart = checkOverlap(escapeForTerminal(local), root, escapeForTerminal(remote));
    if (apart.ok()) return apart;
    Error error = apart.error();
    error.path = local;
    return error;
  });
}

}  // namespace capstan::sync
