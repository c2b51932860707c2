// What to say to whom a server in a systemd unit tells of something that the unit decides: which setting it is. Pure,
// but for the first.
#pragma once

#include <optional>
#include <string>

#include <capstan/base/error.h>
#include <capstan/client/cli/doctor-service.h>

namespace capstan::cli {

// Whether systemd has started this process as a service that tells it how it is.
bool runsAsUnit();

// Why a server does not start, with the settings of its unit that may be the reason, where there are such.
Error withUnitSettings(Error error);

// How a server gets an address that other machines reach: a part of a sentence. `unit`: the service that it is.
std::string howToBeReached(const std::optional<Unit>& unit);

}  // namespace capstan::cli
