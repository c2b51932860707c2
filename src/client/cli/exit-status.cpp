#include <capstan/client/cli/exit-status.h>

#include <algorithm>

namespace capstan::cli {

int exitStatusOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::CONFLICT: return CONFLICT;
    case ErrorCode::DENIED:
    case ErrorCode::REVOKED:
    case ErrorCode::EXPIRED: return DENIED;
    case ErrorCode::UNREACHABLE:
    case ErrorCode::PROTOCOL_VERSION: return UNREACHABLE;
    case ErrorCode::TIMED_OUT: return TIMED_OUT;
    case ErrorCode::NOT_FOUND: return NOT_FOUND;
    case ErrorCode::EXISTS: return EXISTS;
    default: return FAILED;
  }
}

int exitStatusOfAll(const std::vector<int>& statuses) {
  if (statuses.empty()) return DONE;
  if (statuses.size() == 1) return statuses[0];
  auto isDone = [](int status) { return status == DONE; };
  if (std::all_of(statuses.begin(), statuses.end(), isDone)) return DONE;
  auto leavesSomething = [](int status) { return status == DONE || status == PARTLY_DONE; };
  if (std::any_of(statuses.begin(), statuses.end(), leavesSomething)) return PARTLY_DONE;
  bool same = std::all_of(statuses.begin(), statuses.end(), [&](int status) { return status == statuses[0]; });
  return same ? statuses[0] : FAILED;
}

}  // namespace capstan::cli
