// `capstan serve --limit NAME=VALUE`: from what is typed to the server's limits, and the table for people.
#pragma once

#include <string>
#include <vector>

#include <capstan/server/access/limits.h>

namespace capstan::cli {

// "uploads=8" does where there is one limit of that name, else "connection.uploads=8". Errors: invalidArgument, with
// what was meant or what is possible.
Status setLimit(server::Limits& limits, const std::string& typed);

// All limits with their values, one to a line.
std::string describeLimits(const server::Limits& limits);

}  // namespace capstan::cli
