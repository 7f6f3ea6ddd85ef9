"""The bus between branches, over RabbitMQ, by txamqp."""
