"""The Apache Airflow provider for mediQuo, the telemedicine platform."""

__version__ = "0.1.0"
