"""Servers to start from: each a whole manifest, ready to be changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Template:
    title: str
    description: str
    manifest: Json


def _input(*required: str, **properties: Json) -> Json:
    schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


def _query(*names: str) -> list[Json]:
    return [{"in": "query", "name": name, "argument": name} for name in names]


_READS = {"readOnlyHint": True, "openWorldHint": True}
_STANDS_STILL = {"readOnlyHint": True, "openWorldHint": False}
_LATITUDE = {"type": "number", "minimum": -90, "maximum": 90, "description": "Degrees north of the equator."}
_LONGITUDE = {"type": "number", "minimum": -180, "maximum": 180, "description": "Degrees east of Greenwich."}
_TIME_ZONE = {
    "type": "string",
    "default": "auto",
    "description": "Name of a time zone such as Europe/Lisbon, or auto for the one of the place.",
}

_FIND_PLACE: Json = {
    "name": "find_place",
    "title": "Find a place",
    "description": (
        "Find towns, villages and postal codes by name. Answers with coordinates, country, population and time "
        "zone, the likeliest first; no `results` when nothing is found."
    ),
    "input_schema": _input(
        "name",
        name={"type": "string", "minLength": 2, "description": "Name or postal code of the place."},
        count={
            "type": "integer",
            "minimum": 1,
            "maximum": 20,
            "default": 5,
            "description": "Most places to answer with.",
        },
        language={
            "type": "string",
            "pattern": "^[a-z]{2}$",
            "default": "en",
            "description": "Two-letter language of the names in the answer.",
        },
    ),
    "output_schema": {
        "type": "object",
        "properties": {
            "results": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "latitude": {"type": "number"},
                        "longitude": {"type": "number"},
                    },
                },
            }
        },
    },
    "annotations": _READS,
    "http": {
        "method": "GET",
        "url": "{places_url}/v1/search",
        "parameters": _query("name", "count", "language"),
        "constants": [{"in": "query", "name": "format", "value": "json"}],
    },
}

_FORECAST: Json = {
    "name": "get_forecast",
    "title": "Weather forecast",
    "description": (
        "Current weather and a daily forecast for coordinates. Use find_place first when only the name of a "
        "place is known."
    ),
    "input_schema": _input(
        "latitude",
        "longitude",
        latitude=_LATITUDE,
        longitude=_LONGITUDE,
        days={
            "type": "integer",
            "minimum": 1,
            "maximum": 16,
            "default": 7,
            "description": "How many days, today among them.",
        },
        temperature_unit={"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        wind_speed_unit={"type": "string", "enum": ["kmh", "ms", "mph", "kn"], "default": "kmh"},
        timezone=_TIME_ZONE,
    ),
    "annotations": _READS,
    "http": {
        "method": "GET",
        "url": "{forecast_url}/v1/forecast",
        "parameters": [
            *_query("latitude", "longitude"),
            {"in": "query", "name": "forecast_days", "argument": "days"},
            *_query("temperature_unit", "wind_speed_unit", "timezone"),
        ],
        "constants": [
            {
                "in": "query",
                "name": "current",
                "value": "temperature_2m,apparent_temperature,relative_humidity_2m,precipitation,weather_code,"
                "wind_speed_10m,wind_direction_10m",
            },
            {
                "in": "query",
                "name": "daily",
                "value": "weather_code,temperature_2m_max,temperature_2m_min,precipitation_sum,"
                "precipitation_probability_max,wind_speed_10m_max,sunrise,sunset",
            },
        ],
    },
}

_AIR_QUALITY: Json = {
    "name": "get_air_quality",
    "title": "Air quality",
    "description": "Fine dust, ozone, nitrogen dioxide and the European air quality index at coordinates, now.",
    "input_schema": _input(
        "latitude", "longitude", latitude=_LATITUDE, longitude=_LONGITUDE, timezone=_TIME_ZONE
    ),
    "annotations": _READS,
    "http": {
        "method": "GET",
        "url": "{air_url}/v1/air-quality",
        "parameters": _query("latitude", "longitude", "timezone"),
        "constants": [
            {"in": "query", "name": "current", "value": "european_aqi,pm10,pm2_5,ozone,nitrogen_dioxide"}
        ],
    },
}

_WEATHER = Template(
    "Weather",
    "Forecasts, air quality and place search from Open-Meteo, a public API that needs no key.",
    {
        "mooring": 1,
        "server": {
            "title": "Weather",
            "description": "Weather and air quality anywhere, from Open-Meteo.",
            "instructions": (
                "Find a place by name with find_place, then ask for its weather by coordinates. The numbers of "
                "weather_code are WMO codes: 0 clear, 1 to 3 clouds, 45 to 48 fog, 51 to 67 drizzle and rain, 71 to 77 "
                "snow, 80 to 82 showers, 95 to 99 thunderstorms. Name Open-Meteo as the source."
            ),
        },
        "variables": {
            "forecast_url": {
                "default": "https://api.open-meteo.com",
                "description": "Where forecasts come from.",
            },
            "places_url": {
                "default": "https://geocoding-api.open-meteo.com",
                "description": "Where places are looked up.",
            },
            "air_url": {
                "default": "https://air-quality-api.open-meteo.com",
                "description": "Where air quality comes from.",
            },
        },
        "tools": [_FIND_PLACE, _FORECAST, _AIR_QUALITY],
        "prompts": [
            {
                "name": "pack_for_trip",
                "title": "What to pack",
                "description": "Look up the weather at a destination and say what to pack.",
                "arguments": [
                    {"name": "destination", "description": "Where the trip goes.", "required": True},
                    {"name": "days", "description": "How many days it lasts."},
                ],
                "messages": [
                    {
                        "role": "user",
                        "text": "I travel to {destination} for {days} days. Find the place, look up its forecast "
                        "and tell me in one short list what to pack.",
                    }
                ],
            }
        ],
    },
)

_WELCOME = """\
# Welcome

You are here because we would like to work with you. Three things help in the first week:

1. Ask. Nobody expects you to know where things are.
2. Write down what surprised you. It is the one thing only newcomers can see.
3. Ship something small by Friday, with somebody beside you.

Your lead meets you every day of the first week, then once a week.
"""

_HOURS = """\
# Working hours and leave

- Work the hours that suit you; be reachable from 10:00 to 15:00 on working days.
- Leave: 28 days a year. Tell your team two weeks ahead, and put it into the calendar.
- Ill? Say so in the morning, rest, come back when you are well. A note is needed from the fourth day on.
"""

_EXPENSES = """\
# Expenses

| what | how much | who says yes |
|---|---|---|
| books and courses | up to 500 a year | nobody, just buy them |
| travel | second class, a decent room | your lead |
| equipment | what the work needs | your lead, above 1,000 finance too |

Hand in receipts within 30 days. They are paid with the next salary.
"""

_TEAM = """\
# The {team} team

- Channel: #{team}
- On call: see the calendar "{team} on call"
- New here? Ask in #{team} for the current lead and the next open stand-up.
"""


def _page(name: str, title: str, description: str, text: str) -> Json:
    return {
        "name": name,
        "title": title,
        "description": description,
        "uri": f"handbook://{name}",
        "mime_type": "text/markdown",
        "text": text,
    }


_HANDBOOK = Template(
    "Team handbook",
    "Pages, a page for each team and ready-made prompts: a server without any code or API.",
    {
        "mooring": 1,
        "server": {
            "title": "Team handbook",
            "description": "How we work, for people and their assistants.",
            "instructions": "Answer from the pages of this handbook and name the page. Say so when it is silent.",
        },
        "resources": [
            _page("welcome", "Welcome", "The first week.", _WELCOME),
            _page("working-hours", "Working hours and leave", "When we work and when we do not.", _HOURS),
            _page("expenses", "Expenses", "What is paid, and who agrees to it.", _EXPENSES),
        ],
        "resource_templates": [
            {
                "name": "team",
                "title": "A team's page",
                "description": "Where to find a team and how to reach it.",
                "uri_template": "handbook://teams/{team}",
                "mime_type": "text/markdown",
                "text": _TEAM,
                "completions": {"team": ["design", "finance", "platform", "product", "support"]},
            }
        ],
        "prompts": [
            {
                "name": "welcome_newcomer",
                "title": "Welcome a newcomer",
                "description": "Write a first message to somebody who joins a team.",
                "arguments": [
                    {"name": "name", "description": "Who joins.", "required": True},
                    {
                        "name": "team",
                        "description": "Which team they join.",
                        "required": True,
                        "completions": ["design", "finance", "platform", "product", "support"],
                    },
                ],
                "messages": [
                    {
                        "role": "user",
                        "text": "Write a warm, short message that welcomes {name} to the {team} team. Use "
                        "handbook://welcome and handbook://teams/{team}, and say what happens in the first week.",
                    }
                ],
            },
            {
                "name": "check_expense",
                "title": "Check an expense",
                "description": "Say whether something is paid and who has to agree.",
                "arguments": [
                    {"name": "expense", "description": "What it is, and how much.", "required": True}
                ],
                "messages": [
                    {
                        "role": "user",
                        "text": "Read handbook://expenses. Is this paid, and who has to agree? {expense}",
                    }
                ],
            },
        ],
    },
)

_ECHO = Template(
    "Echo and clock",
    "Three tools that always work: to try a client, a key or a network before anything else.",
    {
        "mooring": 1,
        "server": {
            "title": "Echo and clock",
            "description": "Repeats what it is told, tells the time and greets.",
        },
        "tools": [
            {
                "name": "echo",
                "title": "Echo",
                "description": "Answer with the arguments, unchanged.",
                "input_schema": _input(
                    "message", message={"type": "string", "description": "What to repeat."}
                ),
                "annotations": _STANDS_STILL,
                "static": {"kind": "echo"},
            },
            {
                "name": "clock",
                "title": "Clock",
                "description": "Tell the time in UTC.",
                "input_schema": _input(),
                "annotations": _STANDS_STILL,
                "static": {"kind": "clock"},
            },
            {
                "name": "greet",
                "title": "Greet",
                "description": "Greet somebody by name.",
                "input_schema": _input("name", name={"type": "string", "description": "Whom to greet."}),
                "annotations": _STANDS_STILL,
                "static": {"kind": "text", "text": "Hello {name}, this is Mooring."},
            },
        ],
    },
)

TEMPLATES: dict[str, Template] = {"weather": _WEATHER, "handbook": _HANDBOOK, "echo": _ECHO}
